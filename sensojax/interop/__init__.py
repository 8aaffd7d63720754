"""Other people's weights and formats, in and out."""
