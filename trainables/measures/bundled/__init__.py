"""The bundled measures, one file a family of measures; `spectral` has the matrix norms that some of them need.

The registry imports every module of this room: a new measure is a decorated function here.
"""
