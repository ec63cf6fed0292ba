"""The cases, one file a section; the first word of an id is the name of its file."""
