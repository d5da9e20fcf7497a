/* Sends frames as fast as a packet socket takes them, past the queueing discipline, and says how long that took.
 *
 *   send_frames DEVICE FILE LENGTH ROUNDS
 *
 * FILE holds frames of LENGTH bytes, one behind the other; all of them are sent ROUNDS times. A veth hands a frame to the other end
 * before the call returns, so the time holds the receiving kernel's work too. Standard output gets nanoseconds, a round a line.
 * Exit 1: a message on standard error.
 *
 * Build: cc -O2 send_frames.c -o send_frames
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

enum { BURST = 64 };

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void send_all(int fd, const uint8_t *data, size_t count, size_t length)
{
    struct mmsghdr messages[BURST];
    struct iovec parts[BURST];
    memset(messages, 0, sizeof(messages));
    for (size_t first = 0; first < count; first += BURST) {
        unsigned n = count - first < BURST ? count - first : BURST, sent = 0;
        for (unsigned i = 0; i < n; i++) {
            parts[i].iov_base = (void *)(data + (first + i) * length);
            parts[i].iov_len = length;
            messages[i].msg_hdr.msg_iov = &parts[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        while (sent < n) {
            int done = sendmmsg(fd, messages + sent, n - sent, 0);
            if (done < 0)
                fail("sendmmsg");
            sent += done;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: send_frames DEVICE FILE LENGTH ROUNDS\n");
        return 1;
    }
    size_t length = strtoul(argv[3], NULL, 10);
    int rounds = atoi(argv[4]), one = 1;
    FILE *file = fopen(argv[2], "rb");
    if (!file || fseek(file, 0, SEEK_END))
        fail(argv[2]);
    long size = ftell(file);
    uint8_t *data = malloc(size > 0 ? size : 1);
    rewind(file);
    if (size < 0 || !length || !data || fread(data, 1, size, file) != (size_t)size)
        fail(argv[2]);
    fclose(file);
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1])};
    if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof(to)) || setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)))
        fail(argv[1]);
    for (int round = 0; round < rounds; round++) {
        double start = now_ns();
        send_all(fd, data, size / length, length);
        printf("%.0f\n", now_ns() - start);
    }
    return 0;
}
