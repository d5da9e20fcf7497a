/* How long a word takes to a thread on another processor and back: what threads that work together wait for, over and over. On a virtual
   machine it changes with the places that the host gives the processors.

   cc -O2 -pthread bench/handover.c -o handover && ./handover */

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { ROUNDS = 20, TURNS = 10000 };

/* Each in cache lines of its own. */
typedef struct { _Alignas(128) uint64_t at; } Word;

static Word there, back;
static int processor[2];

static int run_on(int which)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(which, &one);
    return sched_setaffinity(0, sizeof(one), &one);
}

static void wait_for(const Word *word, uint64_t at)
{
    while (__atomic_load_n(&word->at, __ATOMIC_ACQUIRE) != at)
        ;
}

static void *answer(void *unused)
{
    uint64_t at;
    (void)unused;
    run_on(processor[1]);
    for (at = 1; at <= (uint64_t)ROUNDS * TURNS; at++) {
        wait_for(&there, at);
        __atomic_store_n(&back.at, at, __ATOMIC_RELEASE);
    }
    return NULL;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(void)
{
    double least = 0, most = 0, begin, each;
    uint64_t at = 0;
    int round, turn, i, n = 0;
    cpu_set_t allowed;
    pthread_t other;
    sched_getaffinity(0, sizeof(allowed), &allowed);
    for (i = 0; i < CPU_SETSIZE && n < 2; i++)
        if (CPU_ISSET(i, &allowed))
            processor[n++] = i;
    if (n < 2 || run_on(processor[0]) || pthread_create(&other, NULL, answer, NULL)) {
        fprintf(stderr, "there are no two processors for this process\n");
        return 2;
    }
    for (round = 0; round < ROUNDS; round++) {
        begin = now();
        for (turn = 0; turn < TURNS; turn++) {
            __atomic_store_n(&there.at, ++at, __ATOMIC_RELEASE);
            wait_for(&back, at);
        }
        each = (now() - begin) / TURNS;
        least = round == 0 || each < least ? each : least;
        most = each > most ? each : most;
    }
    pthread_join(other, NULL);
    printf("%.0f to %.0f ns to the other processor and back\n", least, most);
    return 0;
}
