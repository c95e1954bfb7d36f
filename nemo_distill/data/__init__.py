"""Text for training: loaders that resume, and the generated demo corpus."""
