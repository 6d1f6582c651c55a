"""How training tasks are chosen, and the service that leases them; the object store and the checkpoint manifest.

Nothing here imports torch.
"""
