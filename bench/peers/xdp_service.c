/* Runs xdp_service.bpf.c through BPF_PROG_TEST_RUN, which needs root and sends nothing.
 *
 *   xdp_service OBJECT FLOWS PACKETS ROUNDS FRAME
 *
 * FLOWS connections with seeded random keys; ROUNDS times PACKETS packets. Standard output gets a JSON object:
 * {"ns_source": of the packet source alone, "ns_least", "ns_median": of everything, "frame": a packet as it leaves, in hexadecimal}.
 * FRAME: a TCP segment to start from, in hexadecimal. Exit 1: a message on standard error.
 *
 * Build: clang -O2 -g -target bpf -c xdp_service.bpf.c -o xdp_service.o; cc -O2 xdp_service.c -lbpf -o xdp_service
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xdp_service.h"

enum { FRAME_MAX = 256, ROUNDS_MAX = 100 };

static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint32_t random32(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state >> 32;
}

static uint32_t words(uint32_t address) { return (address & 0xffff) + (address >> 16); }

/* Client `flow` of a node's pods, a service, and the pod behind it that was chosen. */
static void make_flow(uint32_t flow, struct flow_key *key, struct flow_value *value)
{
    memset(key, 0, sizeof(*key));
    memset(value, 0, sizeof(*value));
    key->source = htonl(0x0af40100 | (2 + flow % 200));
    key->destination = htonl(0x0a600100 | random32() % 100);
    key->source_port = htons(1024 + flow / 200);
    key->destination_port = htons(80);
    key->protocol = IPPROTO_TCP;
    value->server = htonl(0x0af40200 | (2 + random32() % 16));
    value->server_port = htons(8080);
    value->local = htonl(0xc0a8000b);
    value->remote = htonl(0xc0a8000c);
    value->entropy = htons(32768 + random32() % 28232);
    value->ip_difference = (0xffff - words(key->destination) % 0xffff) + words(value->server) + (0xffff - htons(0x0100));
    value->tcp_difference = (0xffff - words(key->destination) % 0xffff) + words(value->server) + (0xffff - key->destination_port) + value->server_port;
    memset(value->remote_mac, 0x22, 6);
    memset(value->local_mac, 0x11, 6);
    memset(value->inner_remote_mac, 0x44, 6);
    memset(value->inner_local_mac, 0x33, 6);
}

static void fill(struct bpf_object *object, uint32_t flows)
{
    int connections = bpf_object__find_map_fd_by_name(object, "connections");
    int sequence = bpf_object__find_map_fd_by_name(object, "sequence");
    uint32_t *order = malloc(flows * sizeof(*order));
    struct flow_key key;
    struct flow_value value;
    if (!order)
        fail("no memory");
    for (uint32_t i = 0; i < flows; i++)
        order[i] = i;
    for (uint32_t i = flows; i > 1; i--) { /* visited in random order */
        uint32_t j = random32() % i, swapped = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swapped;
    }
    for (uint32_t i = 0; i < flows; i++) {
        make_flow(i, &key, &value);
        if (bpf_map_update_elem(connections, &key, &value, BPF_ANY) || bpf_map_update_elem(sequence, &order[i], &key, BPF_ANY))
            fail("the maps do not take %u flows", flows);
    }
    free(order);
}

static void restart(struct bpf_object *object, uint32_t flows, uint32_t keep)
{
    struct progress progress = {.flows = flows, .keep = keep};
    uint32_t zero = 0;
    if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "place"), &zero, &progress, BPF_ANY))
        fail("the place cannot be set");
}

static double run(struct bpf_object *object, const char *name, uint8_t *frame, uint32_t size, int repeat, uint8_t *out, uint32_t *out_size)
{
    int program = bpf_program__fd(bpf_object__find_program_by_name(object, name));
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = size, .data_out = out, .data_size_out = FRAME_MAX,
                .repeat = repeat);
    int error = bpf_prog_test_run_opts(program, &options);
    if (error || options.retval != 3 /* XDP_TX */)
        fail("%s: error %d, verdict %u", name, error, options.retval);
    *out_size = options.data_size_out;
    return options.duration;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    uint8_t frame[FRAME_MAX], out[FRAME_MAX];
    uint32_t size = 0, out_size, flows, seen_size;
    double times[ROUNDS_MAX], source_ns = 1e9;
    if (argc != 6)
        fail("usage: xdp_service OBJECT FLOWS PACKETS ROUNDS FRAME");
    flows = strtoul(argv[2], NULL, 10);
    int packets = atoi(argv[3]), rounds = atoi(argv[4]);
    for (const char *c = argv[5]; c[0] && c[1] && size < FRAME_MAX; c += 2)
        sscanf(c, "%2hhx", &frame[size++]);
    if (!flows || packets < 1 || rounds < 1 || rounds > ROUNDS_MAX)
        fail("flows, packets and rounds (at most %d) are numbers from 1", ROUNDS_MAX);
    struct bpf_object *object = bpf_object__open(argv[1]);
    if (libbpf_get_error(object))
        fail("%s: cannot be opened", argv[1]);
    bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "connections"), flows);
    bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "sequence"), flows);
    if (bpf_object__load(object))
        fail("the kernel does not load the program (root, and bpf(2) allowed?)");
    fill(object, flows);
    restart(object, flows, 1);
    run(object, "service", frame, size, 1, out, &seen_size);
    uint8_t seen[FRAME_MAX];
    memcpy(seen, out, seen_size);
    restart(object, flows, 0);
    for (int i = 0; i < rounds; i++) {
        double source = run(object, "source_only", frame, size, packets, out, &out_size);
        source_ns = source < source_ns ? source : source_ns;
        times[i] = run(object, "service", frame, size, packets, out, &out_size);
    }
    qsort(times, rounds, sizeof(double), by_size);
    printf("{\"ns_source\": %.1f, \"ns_least\": %.1f, \"ns_median\": %.1f, \"frame\": \"", source_ns, times[0], times[rounds / 2]);
    for (uint32_t i = 0; i < seen_size; i++)
        printf("%02x", seen[i]);
    printf("\"}\n");
    return 0;
}
