"""The elastic group: one agent a node, its workers, how they meet, and how they notice that one of them is gone."""
