"""A trained model on arrays and recordings, without torch where the native core serves it."""
