# What the engine tells those who guess.

cdef class Speculator:
    pass
