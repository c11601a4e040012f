"""Small demo models trained on the phantom; each folder has its model card."""
