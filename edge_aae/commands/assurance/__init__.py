"""Commands that ask whether a bundle still decides as it should, or another one would."""
