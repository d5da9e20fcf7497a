/* Lookup costs of DPDK's own tables, measured beside ours: same routes, same destinations, same machine, same run.
 *
 *   dpdk_lookup lpm4  ROUTES KEYS [ROUNDS]   rte_lpm, bulk
 *   dpdk_lookup fib4  ROUTES KEYS [ROUNDS]   rte_fib (DIR-24-8, 2-byte entries), each lookup function it has
 *   dpdk_lookup fib6  ROUTES KEYS [ROUNDS]   rte_fib6 (trie, 2-byte entries, or 4-byte ones where its table8s run out)
 *   dpdk_lookup hash  COUNT [SEED] [ROUNDS]  rte_hash (CRC32), bulk of 64, COUNT random 16-byte keys, looked up in random order
 *
 * ROUTES and KEYS are files of dataplane/bench/routes.py: lines "ADDRESS/LENGTH NEXTHOP" and packed addresses in network byte order.
 * Standard output gets a JSON object a line: {"name", "ns_per_op" (the fastest of ROUNDS passes over all keys, default 15),
 * "ns_median", "burst" (keys per call; of those tried, the fastest), "entries", "insert_ns", "sum"}, where "sum" adds up all next hops
 * found (0 for none): whoever looked up the same keys in the same routes has the same sum. A lookup function that this
 * processor lacks is left out. Exit 1: a message on standard error.
 *
 * Build: cc -O3 -march=native dpdk_lookup.c $(pkg-config --cflags --libs libdpdk) -o dpdk_lookup
 * Run as an ordinary process: memory is not huge pages of hugetlbfs but transparent ones (madvise), as ours is.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_lpm.h>
#include <rte_memory.h>
#include <rte_vect.h>

enum { ROUNDS_MAX = 1000, HASH_BURST = 64 };

struct route {
    uint8_t address[16];
    uint8_t length;
    uint32_t hop;
};

struct input {
    struct route *routes;
    size_t n_routes;
    uint8_t *keys;
    size_t n_keys;
    int rounds;
};

/* One pass over all keys in calls of `burst`; returns the sum of what was found. */
typedef uint64_t (*pass_fn)(void *table, const void *keys, size_t n, unsigned burst);

static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- input */

static void read_routes(const char *path, int family, struct input *in)
{
    FILE *file = fopen(path, "r");
    char address[64];
    unsigned length, hop;
    size_t capacity = 0;
    if (!file)
        fail("%s: cannot be opened", path);
    while (fscanf(file, "%63[^/]/%u %u ", address, &length, &hop) == 3) {
        if (in->n_routes == capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            in->routes = realloc(in->routes, capacity * sizeof(struct route));
            if (!in->routes)
                fail("no memory for the routes");
        }
        struct route *r = &in->routes[in->n_routes++];
        r->length = length;
        r->hop = hop;
        if (inet_pton(family == 4 ? AF_INET : AF_INET6, address, r->address) != 1)
            fail("%s: line %zu: %s is no address", path, in->n_routes, address);
    }
    if (!feof(file))
        fail("%s: line %zu cannot be read", path, in->n_routes + 1);
    fclose(file);
}

static void read_keys(const char *path, size_t size, struct input *in)
{
    FILE *file = fopen(path, "rb");
    long bytes;
    if (!file || fseek(file, 0, SEEK_END) || (bytes = ftell(file)) < (long)size)
        fail("%s: holds no keys", path);
    rewind(file);
    in->n_keys = bytes / size;
    in->keys = malloc(bytes);
    if (!in->keys || fread(in->keys, size, in->n_keys, file) != in->n_keys)
        fail("%s: cannot be read", path);
    fclose(file);
}

static uint32_t host_order(const uint8_t *address)
{
    uint32_t word;
    memcpy(&word, address, 4);
    return ntohl(word);
}

/* ---- timing */

static void report(const char *name, void *table, pass_fn pass, const void *keys, size_t n_keys, size_t entries, double insert_ns,
                   const unsigned *bursts, int rounds)
{
    double best = 1e300, median = 0, times[ROUNDS_MAX];
    unsigned best_burst = 0;
    uint64_t sum = 0;
    for (; *bursts; bursts++) {
        sum = pass(table, keys, n_keys, *bursts);
        for (int i = 0; i < rounds; i++) {
            double start = now_ns();
            if (pass(table, keys, n_keys, *bursts) != sum)
                fail("%s: two passes over the same keys found different next hops", name);
            times[i] = (now_ns() - start) / n_keys;
        }
        qsort(times, rounds, sizeof(double), by_size);
        if (times[0] < best) {
            best = times[0];
            median = times[rounds / 2];
            best_burst = *bursts;
        }
    }
    printf("{\"name\": \"%s\", \"ns_per_op\": %.3f, \"ns_median\": %.3f, \"burst\": %u, \"entries\": %zu, \"insert_ns\": %.1f, \"sum\": %llu}\n",
           name, best, median, best_burst, entries, insert_ns, (unsigned long long)sum);
    fflush(stdout);
}

static const unsigned BURSTS[] = {32, 64, 256, 1024, 0};

/* ---- rte_lpm */

static uint64_t pass_lpm(void *table, const void *keys, size_t n, unsigned burst)
{
    uint32_t found[1024];
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i += burst) {
        unsigned m = n - i < burst ? n - i : burst;
        rte_lpm_lookup_bulk(table, (const uint32_t *)keys + i, found, m);
        for (unsigned k = 0; k < m; k++)
            sum += found[k] & RTE_LPM_LOOKUP_SUCCESS ? found[k] & 0xffffff : 0;
    }
    return sum;
}

static void run_lpm(struct input *in, const uint32_t *keys)
{
    struct rte_lpm_config config = {.max_rules = in->n_routes + 1, .number_tbl8s = 1 << 16};
    struct rte_lpm *lpm = rte_lpm_create("lpm", SOCKET_ID_ANY, &config);
    if (!lpm)
        fail("rte_lpm_create: %s", rte_strerror(rte_errno));
    double start = now_ns();
    for (size_t i = 0; i < in->n_routes; i++)
        if (rte_lpm_add(lpm, host_order(in->routes[i].address), in->routes[i].length, in->routes[i].hop))
            fail("rte_lpm_add: route %zu was refused", i + 1);
    double insert_ns = (now_ns() - start) / in->n_routes;
    report("rte_lpm", lpm, pass_lpm, keys, in->n_keys, in->n_routes, insert_ns, BURSTS, in->rounds);
}

/* ---- rte_fib */

static uint64_t pass_fib4(void *table, const void *keys, size_t n, unsigned burst)
{
    uint64_t found[1024], sum = 0;
    for (size_t i = 0; i < n; i += burst) {
        unsigned m = n - i < burst ? n - i : burst;
        rte_fib_lookup_bulk(table, (uint32_t *)keys + i, found, m);
        for (unsigned k = 0; k < m; k++)
            sum += found[k];
    }
    return sum;
}

static void run_fib4(struct input *in, const uint32_t *keys)
{
    static const struct { const char *name; enum rte_fib_lookup_type type; } functions[] = {
        {"rte_fib_scalar_macro", RTE_FIB_LOOKUP_DIR24_8_SCALAR_MACRO},
        {"rte_fib_scalar_inline", RTE_FIB_LOOKUP_DIR24_8_SCALAR_INLINE},
        {"rte_fib_avx512", RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512},
    };
    struct rte_fib_conf config = {.type = RTE_FIB_DIR24_8, .default_nh = 0, .max_routes = 2 * in->n_routes + 16};
    config.dir24_8.nh_sz = RTE_FIB_DIR24_8_2B;
    config.dir24_8.num_tbl8 = 32767;
    struct rte_fib *fib = rte_fib_create("fib", SOCKET_ID_ANY, &config);
    if (!fib)
        fail("rte_fib_create: %s", rte_strerror(rte_errno));
    double start = now_ns();
    for (size_t i = 0; i < in->n_routes; i++)
        if (rte_fib_add(fib, host_order(in->routes[i].address), in->routes[i].length, in->routes[i].hop))
            fail("rte_fib_add: route %zu was refused", i + 1);
    double insert_ns = (now_ns() - start) / in->n_routes;
    for (size_t i = 0; i < RTE_DIM(functions); i++)
        if (rte_fib_select_lookup(fib, functions[i].type) == 0)
            report(functions[i].name, fib, pass_fib4, keys, in->n_keys, in->n_routes, insert_ns, BURSTS, in->rounds);
}

/* ---- rte_fib6 */

static uint64_t pass_fib6(void *table, const void *keys, size_t n, unsigned burst)
{
    uint64_t found[1024], sum = 0;
    for (size_t i = 0; i < n; i += burst) {
        unsigned m = n - i < burst ? n - i : burst;
        rte_fib6_lookup_bulk(table, (uint8_t(*)[16])keys + i, found, m);
        for (unsigned k = 0; k < m; k++)
            sum += found[k];
    }
    return sum;
}

static struct rte_fib6 *fill_fib6(struct input *in, enum rte_fib_trie_nh_sz size, uint32_t tbl8s, double *insert_ns)
{
    struct rte_fib6_conf config = {.type = RTE_FIB6_TRIE, .default_nh = 0, .max_routes = 2 * in->n_routes + 16};
    config.trie.nh_sz = size;
    config.trie.num_tbl8 = tbl8s;
    struct rte_fib6 *fib = rte_fib6_create("fib6", SOCKET_ID_ANY, &config);
    if (!fib)
        fail("rte_fib6_create: %s", rte_strerror(rte_errno));
    double start = now_ns();
    for (size_t i = 0; i < in->n_routes; i++)
        if (rte_fib6_add(fib, in->routes[i].address, in->routes[i].length, in->routes[i].hop)) {
            rte_fib6_free(fib);
            return NULL;
        }
    *insert_ns = (now_ns() - start) / in->n_routes;
    return fib;
}

static void run_fib6(struct input *in)
{
    static const struct { const char *name; enum rte_fib6_lookup_type type; } functions[] = {
        {"rte_fib6_scalar", RTE_FIB6_LOOKUP_TRIE_SCALAR},
        {"rte_fib6_avx512", RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512},
    };
    double insert_ns;
    struct rte_fib6 *fib = fill_fib6(in, RTE_FIB6_TRIE_2B, 32767, &insert_ns);
    if (!fib)
        fib = fill_fib6(in, RTE_FIB6_TRIE_4B, 1 << 20, &insert_ns);
    if (!fib)
        fail("rte_fib6_add: a route was refused");
    for (size_t i = 0; i < RTE_DIM(functions); i++)
        if (rte_fib6_select_lookup(fib, functions[i].type) == 0)
            report(functions[i].name, fib, pass_fib6, in->keys, in->n_keys, in->n_routes, insert_ns, BURSTS, in->rounds);
}

/* ---- rte_hash */

static uint64_t random64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15; /* SplitMix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint64_t pass_hash(void *table, const void *keys, size_t n, unsigned burst)
{
    const void *asked[HASH_BURST];
    void *found[HASH_BURST];
    uint64_t hits, sum = 0;
    for (size_t i = 0; i + burst <= n; i += burst) {
        for (unsigned k = 0; k < burst; k++)
            asked[k] = (const uint8_t *)keys + (i + k) * 16;
        rte_hash_lookup_bulk_data(table, asked, burst, &hits, found);
        for (unsigned k = 0; k < burst; k++)
            sum += (uintptr_t)found[k];
    }
    return sum;
}

static void run_hash(size_t count, uint64_t seed, int rounds)
{
    static const unsigned bursts[] = {HASH_BURST, 0};
    size_t asked = count < 1 << 16 ? 1 << 16 : (count + HASH_BURST - 1) / HASH_BURST * HASH_BURST;
    uint64_t *stored = malloc(count * 16), *keys = malloc(asked * 16);
    struct rte_hash_parameters parameters = {.name = "hash", .entries = count * 2, .key_len = 16, .hash_func = rte_hash_crc,
                                             .socket_id = SOCKET_ID_ANY};
    struct rte_hash *hash = rte_hash_create(&parameters);
    if (!hash || !stored || !keys)
        fail("rte_hash_create: %s", rte_strerror(rte_errno));
    for (size_t i = 0; i < count * 2; i++)
        stored[i] = random64(&seed);
    double start = now_ns();
    for (size_t i = 0; i < count; i++)
        if (rte_hash_add_key_data(hash, stored + i * 2, (void *)(uintptr_t)(i + 1)))
            fail("rte_hash_add_key_data: key %zu was refused", i + 1);
    double insert_ns = (now_ns() - start) / count;
    for (size_t i = 0; i < asked; i++)
        memcpy(keys + i * 2, stored + random64(&seed) % count * 2, 16);
    report("rte_hash_bulk", hash, pass_hash, keys, asked, count, insert_ns, bursts, rounds);
}

/* ---- start */

/* EAL without hugetlbfs takes its memory from a memfd, which transparent huge pages leave alone; it takes anonymous memory where the
 * kernel has no memfd, so this program says that there is none. */
int memfd_create(const char *name, unsigned flags)
{
    (void)name;
    (void)flags;
    errno = ENOSYS;
    return -1;
}

static int advise_huge(const struct rte_memseg_list *list, void *unused)
{
    (void)unused;
    return madvise(list->base_va, list->len, MADV_HUGEPAGE) ? -1 : 0;
}

static void start_eal(char *program)
{
    char core[16]; /* EAL stays on the processor it starts on */
    snprintf(core, sizeof(core), "%d", sched_getcpu());
    char *arguments[] = {program, "--no-huge", "--no-pci", "--no-telemetry", "--no-shconf", "--log-level=error", "-m", "4096",
                         "-l", core, "--force-max-simd-bitwidth=512", NULL};
    if (rte_eal_init(RTE_DIM(arguments) - 1, arguments) < 0)
        fail("rte_eal_init: %s", rte_strerror(rte_errno));
    if (rte_memseg_list_walk(advise_huge, NULL))
        fprintf(stderr, "no huge pages for DPDK's memory: its tables will look slower than they are\n");
}

static int rounds_of(const char *text)
{
    int rounds = text ? atoi(text) : 15;
    if (rounds < 1 || rounds > ROUNDS_MAX)
        fail("rounds must be 1 to %d", ROUNDS_MAX);
    return rounds;
}

int main(int argc, char **argv)
{
    struct input in = {0};
    if (argc < 3 || (strcmp(argv[1], "hash") && argc < 4))
        fail("usage: dpdk_lookup lpm4|fib4|fib6 ROUTES KEYS [ROUNDS] | hash COUNT [SEED] [ROUNDS]");
    start_eal(argv[0]);
    if (!strcmp(argv[1], "hash")) {
        run_hash(strtoul(argv[2], NULL, 10), argc > 3 ? strtoull(argv[3], NULL, 10) : 1, rounds_of(argc > 4 ? argv[4] : NULL));
        return 0;
    }
    int family = argv[1][3] == '6' ? 6 : 4;
    read_routes(argv[2], family, &in);
    read_keys(argv[3], family == 4 ? 4 : 16, &in);
    in.rounds = rounds_of(argc > 4 ? argv[4] : NULL);
    uint32_t *host = malloc(in.n_keys * 4);
    for (size_t i = 0; host && family == 4 && i < in.n_keys; i++)
        host[i] = host_order(in.keys + i * 4);
    if (!strcmp(argv[1], "lpm4"))
        run_lpm(&in, host);
    else if (!strcmp(argv[1], "fib4"))
        run_fib4(&in, host);
    else if (!strcmp(argv[1], "fib6"))
        run_fib6(&in);
    else
        fail("no table is called %s", argv[1]);
    return 0;
}
