"""What laboratories published, read as it is, with the axes put in our order once.

One module per format: `sensorium2023` reads the dynamic recordings, `simulated` writes invented
mice in the same format; `published` is the table of what can be had where. In goes a path, out
comes a `types.Recording` whose trials are read when asked for.
"""
