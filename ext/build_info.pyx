"""How the compiled modules were made. Types and sentences: ``dataplane/_build.pyi``."""

cdef extern from *:
    """
    #ifdef __clang__
    #define dataplane_compiler __VERSION__
    #else
    #define dataplane_compiler "gcc " __VERSION__
    #endif
    """
    const char *dataplane_compiler
    const char *DATAPLANE_FLAGS


def compiler():
    return dataplane_compiler.decode()


def flags():
    return DATAPLANE_FLAGS.decode()
