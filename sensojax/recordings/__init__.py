"""What laboratories published, read as it is, with the axes put in our order once.

One module per format: `sensorium2023` reads recordings of videos, `sensorium2022` those of images,
`colliculus2017` spike counts in the superior colliculus, `formats` whichever it is; `simulated`
writes invented mice in the same formats; `published` is the table of what can be had where;
`movies` reads new films for trained models. In goes a path, out comes a `types.Recording` whose
trials are read when asked for.
"""
