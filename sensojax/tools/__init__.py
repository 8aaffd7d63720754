"""Tools around recordings: fetching them, finding out what was shown, statistics, response files.

In: sessions as published, or stores; out: files that others can read, and annotations of stores.
The scripts of the repository are thin around these.
"""
