"""The 611 classes of glyphs: which characters there are, how they are merged, and how they are drawn."""
