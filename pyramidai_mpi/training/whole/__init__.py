"""Networks trained on whole images: the exact gradient of gigapixels, block by block."""
