"""Pure builders of the children's manifests; nothing here decides when a child is wanted."""
