/* A header of 8 bytes before an IP packet: 0x7a, 0, the EtherType of what is inside, a 32-bit tag; IP protocol 253. */
#include <Python.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "encap_abi.h"

enum { SIZE = 8, PROTOCOL = 253 /* for experiments (RFC 3692) */ };
enum { NO_HEADROOM = 1, TRUNCATED, BAD_MAGIC, UNKNOWN_PROTOCOL }; /* places in reasons, counted from 1 */

static void *create(const dataplane_encap_option *options, int n, const dataplane_encap_host *host, char *error)
{
    uint32_t *tag = calloc(1, sizeof *tag);
    for (int i = 0; tag != NULL && i < n; i++) {
        if (strcmp(options[i].key, "tag") != 0 || options[i].size || options[i].number < 0 || options[i].number > UINT32_MAX) {
            snprintf(error, DATAPLANE_ENCAP_ERROR_LEN, "c_tag: option '%s' is unknown or its value is out of range", options[i].key);
            free(tag);
            return NULL;
        }
        *tag = (uint32_t)options[i].number;
    }
    return tag;
}

static uint16_t overhead(const void *state, int family) { return SIZE + (family == 4 ? 20 : 40); }

static uint16_t port(const void *state) { return 0; }

static int push(void *state, dataplane_encap_push *info, dataplane_encap_bytes *bytes)
{
    uint32_t tag = info->id < 0 ? *(uint32_t *)state : (uint32_t)info->id;
    if (bytes->data - bytes->head < SIZE)
        return NO_HEADROOM;
    uint8_t header[SIZE] = {0x7a, 0, info->inner_protocol >> 8, info->inner_protocol, tag >> 24, tag >> 16, tag >> 8, tag};
    bytes->data -= SIZE;
    memcpy(bytes->data, header, SIZE);
    info->ip_protocol = PROTOCOL;
    info->tos = info->inner_tos;
    return DATAPLANE_ENCAP_OK;
}

static int pop(void *state, dataplane_encap_pop *info, dataplane_encap_bytes *bytes)
{
    const uint8_t *header = bytes->data;
    if (bytes->tail - bytes->data < SIZE + 20) /* and the shortest IP header */
        return TRUNCATED;
    if (header[0] != 0x7a || header[1] != 0)
        return BAD_MAGIC;
    info->id = (uint32_t)header[4] << 24 | header[5] << 16 | header[6] << 8 | header[7];
    if (info->id != *(uint32_t *)state)
        return DATAPLANE_ENCAP_NOT_MINE;
    info->inner_protocol = (uint16_t)(header[2] << 8 | header[3]);
    if (info->inner_protocol != 0x0800 && info->inner_protocol != 0x86dd)
        return UNKNOWN_PROTOCOL;
    bytes->data += SIZE;
    return DATAPLANE_ENCAP_OK;
}

static const dataplane_encap_reason reasons[] = {
    {"no_headroom", "No room for the tag before the packet", "NOMEM"},
    {"truncated", "The packet ends inside the tag or the IP header behind it", ""},
    {"bad_magic", "The packet does not begin with 0x7a00", ""},
    {"unknown_protocol", "The tag announces neither IPv4 nor IPv6", ""},
};
static const dataplane_encap_option_help options[] = {{"tag", "The tag, 0 to 0xffffffff, which tells devices apart", "0"}};
static dataplane_encap tag = {
    .abi = DATAPLANE_ENCAP_ABI, .name = "c_tag", .sentence = "IP packets behind a tag, in C", .ip_protocols = {PROTOCOL},
    .options = options, .n_options = 1, .drop_reasons = reasons, .n_drop_reasons = 4,
    .create = create, .destroy = free, .overhead = overhead, .port = port, .push = push, .pop = pop,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "c_tag", .m_size = -1};

PyMODINIT_FUNC PyInit_c_tag(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddObject(made, "capsule", PyCapsule_New(&tag, DATAPLANE_ENCAP_CAPSULE, NULL)) < 0)
        Py_CLEAR(made);
    return made;
}
