"""Data: sources of labelled images, their splits, and the prepared folders that every other stage reads.

Images are uint8 arrays [N, H, W, C]; classes are strings whose order is stored with the data.
"""
