"""Image-report pairs: the manifest, the decoded image cache, batches by step number, augmentation."""
