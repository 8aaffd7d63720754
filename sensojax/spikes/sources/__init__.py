"""What laboratories published of spikes: files of one session go in, its `Trains` come out.

A module per format (`nwb`, `lemerre`, `gonzalez`, `steinmetz2`) has `SUFFIX` of its files,
`RESOLUTION_S` (0 where times are exact), `sessions(files)`, which says what sessions the files hold
without opening them, and `read(found, component, columns)`, which reads one. `components` lists the
published data sets. Files are local or behind an address; a reader sees only something to open
(`files`).
"""
