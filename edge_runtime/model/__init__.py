"""What a bundle's numbers mean: preprocessing, prior, score; shared by training, export and device."""
