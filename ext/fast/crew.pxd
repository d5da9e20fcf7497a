# Threads that do pieces of work together. A piece has as many parts as the crew has members.
#
# Whoever is there takes a part that nobody has taken, its own one first; the piece is done when all its parts are. So nobody waits for a
# thread that the machine has no processor for, unless it has begun a part. They know nothing of packets, and nothing of Python. Whoever
# makes a crew is its first member: it says what is to be done next, works along, and goes on when all is done.

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

cdef extern from *:
    """
    #include <pthread.h>
    #include <signal.h>
    #include <stdint.h>
    #include <unistd.h>

    /* Numbers that only grow, each in a cache line of its own; who waits for one looks at it for a while, then sleeps. */
    typedef struct { uint64_t at; uint64_t beside[7]; } CrewCount;

    typedef struct {
        CrewCount pieces;  /* that have begun */
        CrewCount done;    /* parts, of all pieces */
        CrewCount asleep;
        CrewCount ends;    /* 1: there will be no more */
        pthread_mutex_t mutex;
        pthread_cond_t changed;
    } CrewBoard;

    #define CREW_LOOKS 4000

    static inline void crew_pause(void)
    {
    #if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
    #elif defined(__aarch64__)
        __asm__ __volatile__("yield");
    #endif
    }

    static int board_open(CrewBoard *b)
    {
        if (pthread_mutex_init(&b->mutex, NULL))
            return 0;
        if (pthread_cond_init(&b->changed, NULL)) {
            pthread_mutex_destroy(&b->mutex);
            return 0;
        }
        return 1;
    }

    static void board_close(CrewBoard *b)
    {
        pthread_cond_destroy(&b->changed);
        pthread_mutex_destroy(&b->mutex);
    }

    static void board_wake(CrewBoard *b)
    {
        if (__atomic_load_n(&b->asleep.at, __ATOMIC_SEQ_CST)) {
            pthread_mutex_lock(&b->mutex);
            pthread_cond_broadcast(&b->changed);
            pthread_mutex_unlock(&b->mutex);
        }
    }

    /* What others have done before they counted is seen afterwards. Returns what the count is. */
    static uint64_t board_wait(CrewBoard *b, const CrewCount *count, uint64_t least)
    {
        uint64_t at;
        int i;
        for (;;) {
            for (i = 0; i < CREW_LOOKS; i++) {
                at = __atomic_load_n(&count->at, __ATOMIC_ACQUIRE);
                if (at >= least)
                    return at;
                crew_pause();
            }
            pthread_mutex_lock(&b->mutex);
            __atomic_add_fetch(&b->asleep.at, 1, __ATOMIC_SEQ_CST);
            if (__atomic_load_n(&count->at, __ATOMIC_SEQ_CST) < least)
                pthread_cond_wait(&b->changed, &b->mutex);
            __atomic_sub_fetch(&b->asleep.at, 1, __ATOMIC_SEQ_CST);
            pthread_mutex_unlock(&b->mutex);
        }
    }

    static inline void board_begins(CrewBoard *b)
    {
        __atomic_add_fetch(&b->pieces.at, 1, __ATOMIC_SEQ_CST);
        board_wake(b);
    }

    static inline void board_done(CrewBoard *b, uint64_t piece_ends)
    {
        if (__atomic_add_fetch(&b->done.at, 1, __ATOMIC_SEQ_CST) == piece_ends)
            board_wake(b);
    }

    static inline void board_ends(CrewBoard *b)
    {
        __atomic_store_n(&b->ends.at, 1, __ATOMIC_RELAXED);
        board_begins(b);
    }

    /* To one who is late that may show while others still do the last piece, which they can do without him. */
    static inline int board_has_ended(const CrewBoard *b) { return __atomic_load_n(&b->ends.at, __ATOMIC_RELAXED) != 0; }

    /* Is the part still to be taken for this piece, and is it ours now? */
    static inline int part_taken(CrewCount *part, uint64_t piece)
    {
        return __atomic_load_n(&part->at, __ATOMIC_RELAXED) == piece
            && __atomic_compare_exchange_n(&part->at, &piece, piece + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }

    /* Signals are for the threads of the program around us. */
    static int thread_begin(pthread_t *thread, void *(*work)(void *), void *with)
    {
        sigset_t all, before;
        int failed;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        failed = pthread_create(thread, NULL, work, with);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return !failed;
    }

    static inline void thread_end(pthread_t thread) { pthread_join(thread, NULL); }
    static inline int process_number(void) { return (int)getpid(); }
    """
    ctypedef struct CrewCount:
        uint64_t at
    ctypedef struct CrewBoard:
        CrewCount pieces
        CrewCount done
    ctypedef struct pthread_t:
        pass
    bint board_open(CrewBoard *b) noexcept nogil
    void board_close(CrewBoard *b) noexcept nogil
    uint64_t board_wait(CrewBoard *b, const CrewCount *count, uint64_t least) noexcept nogil
    void board_wake(CrewBoard *b) noexcept nogil
    void board_begins(CrewBoard *b) noexcept nogil
    void board_ends(CrewBoard *b) noexcept nogil
    bint board_has_ended(const CrewBoard *b) noexcept nogil
    void board_done(CrewBoard *b, uint64_t piece_ends) noexcept nogil
    bint part_taken(CrewCount *part, uint64_t piece) noexcept nogil
    bint thread_begin(pthread_t *thread, void *(*work)(void *) noexcept nogil, void *what) noexcept nogil
    void thread_end(pthread_t thread) noexcept nogil
    int process_number() noexcept nogil

cdef enum:
    CREW_MOST = 64  # threads

ctypedef void (*CrewStep)(void *what, int part, int step) noexcept nogil

cdef struct CrewMember:
    Crew *crew
    pthread_t thread
    int number
    CrewCount part  # pieces that it has been taken for

cdef struct Crew:
    CrewBoard board
    CrewMember *member
    int n  # of them, with the one who made the crew
    int n_threads
    CrewStep step
    int doing  # the step that the piece is, which only who has a part of it looks at: as long as one is not done, no other piece begins
    void *what  # the work is about
    int process  # in which the threads are


cdef inline void crew_piece(Crew *crew, uint64_t piece, int member) noexcept nogil:
    """All parts of a piece that nobody has taken, for one member."""
    cdef int i, part = member
    for i in range(crew.n):
        if part_taken(&crew.member[part].part, piece):
            crew.step(crew.what, part, crew.doing)
            board_done(&crew.board, (piece + 1) * <uint64_t>crew.n)
        part = part + 1 if part + 1 < crew.n else 0


cdef inline void *crew_member(void *what) noexcept nogil:
    cdef CrewMember *me = <CrewMember *>what
    cdef Crew *crew = me.crew
    cdef uint64_t pieces = 0
    while True:
        pieces = board_wait(&crew.board, &crew.board.pieces, pieces + 1)
        if board_has_ended(&crew.board):
            return NULL
        crew_piece(crew, pieces - 1, me.number)


cdef inline void crew_calls(Crew *crew) noexcept nogil:
    """There will be work soon: whoever sleeps gets up, and looks for a while."""
    board_wake(&crew.board)


cdef inline void crew_begins(Crew *crew, int step) noexcept nogil:
    """A piece of work, of which others may begin their parts."""
    crew.doing = step
    board_begins(&crew.board)


cdef inline void crew_ends(Crew *crew) noexcept nogil:
    """What nobody has begun of the piece is done, and then all of it."""
    cdef uint64_t piece = crew.board.pieces.at - 1
    crew_piece(crew, piece, 0)
    board_wait(&crew.board, &crew.board.done, (piece + 1) * <uint64_t>crew.n)


cdef inline void crew_work(Crew *crew, int step) noexcept nogil:
    """One piece of work; it is done when this returns."""
    crew_begins(crew, step)
    crew_ends(crew)


cdef inline Crew *crew_new(int n, CrewStep step, void *what) noexcept nogil:
    """A crew of ``n``, though there may be fewer threads where the machine gives no more. NULL when memory is out."""
    cdef Crew *crew = <Crew *>calloc(1, sizeof(Crew))
    cdef int i
    if crew == NULL:
        return NULL
    crew.member = <CrewMember *>calloc(n, sizeof(CrewMember))
    if crew.member == NULL or not board_open(&crew.board):
        free(crew.member)
        free(crew)
        return NULL
    crew.n = n
    crew.step = step
    crew.what = what
    crew.process = process_number()
    crew.n_threads = 1
    for i in range(1, n):
        crew.member[i].crew = crew
        crew.member[i].number = i
        if not thread_begin(&crew.member[i].thread, crew_member, &crew.member[i]):
            break
        crew.n_threads += 1
    return crew


cdef inline bint crew_is_here(const Crew *crew) noexcept nogil:
    """A process that was forked off has none of its threads."""
    return crew.process == process_number()


cdef inline void crew_free(Crew *crew) noexcept nogil:
    """Its threads end first. What a fork has left of a crew is memory alone."""
    cdef int i
    if crew == NULL:
        return
    if crew_is_here(crew):
        board_ends(&crew.board)
        for i in range(1, crew.n_threads):
            thread_end(crew.member[i].thread)
        board_close(&crew.board)
    free(crew.member)
    free(crew)
