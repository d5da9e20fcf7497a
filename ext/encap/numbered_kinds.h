/* The callbacks of an encapsulation that are called without a state do not say whose they are. Where one module makes
 * encapsulations while it runs, create and describe of each are functions of their own, which add its number. */
#ifndef DATAPLANE_NUMBERED_KINDS_H
#define DATAPLANE_NUMBERED_KINDS_H

#include "encap_abi.h"

#define DATAPLANE_NUMBERED_KINDS 16

static void *(*numbered_create)(int kind, const dataplane_encap_option *, int, const dataplane_encap_host *, char *);
static int (*numbered_describe)(int kind, uint8_t, const uint8_t *, size_t, dataplane_encap_field, void *);

#define DATAPLANE_NUMBERED_KIND(k)                                                                                          \
    static void *create_##k(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error)    \
    {                                                                                                                       \
        return numbered_create(k, options, n, host, error);                                                                 \
    }                                                                                                                       \
    static int describe_##k(uint8_t protocol, const uint8_t *data, size_t size, dataplane_encap_field field, void *context) \
    {                                                                                                                       \
        return numbered_describe(k, protocol, data, size, field, context);                                                  \
    }

#define DATAPLANE_NUMBERED_EACH(DO) \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)

DATAPLANE_NUMBERED_EACH(DATAPLANE_NUMBERED_KIND)

#define DATAPLANE_NUMBERED_CASE(k)      \
    case k:                             \
        encap->create = create_##k;     \
        encap->describe = describe_##k; \
        break;

static void numbered_callbacks(dataplane_encap *encap, int kind)
{
    switch (kind) {
        DATAPLANE_NUMBERED_EACH(DATAPLANE_NUMBERED_CASE)
    }
}

#endif
