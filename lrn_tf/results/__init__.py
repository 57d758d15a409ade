"""What came out of training, as numbers, pictures and pages."""
