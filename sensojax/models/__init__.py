"""Arrays in, arrays out: normalised video, behaviour and pupil in; responses of every neuron out.

An `encoder.Encoder` is one shared core (`cores/`), one readout per mouse (`readouts/`) and what
behaviour does to them (`behavior`). Models know nothing of files, configs, losses or metrics.
"""
