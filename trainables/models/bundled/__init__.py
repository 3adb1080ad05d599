"""The bundled model families, one file a family (`fixed` has those that are solved and not trained).

The registry imports every module of this room: a new built-in family is a new file here.
"""
