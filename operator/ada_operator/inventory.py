"""Whole lists of experiments and their children: what the watches left out, repeated or mixed up is put right by them.

One list of a kind for all experiments costs the API server less than one for each, and a new operator knows everything
after nine of them.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection

from ada_operator import names
from ada_operator.cluster import EXPERIMENTS, LABELLED, Cluster, Resource
from ada_operator.kept import KeptLooks, Place, pack
from ada_operator.observed import Manifest

PAUSE_S = 0.05  # after a page: whoever has something to do meanwhile goes first


async def take_inventory(
    cluster: Cluster, kept: KeptLooks, namespaces: Collection[str], news: Callable[[Place], None]
) -> list[Manifest]:
    """List everything in these namespaces (in all of them if there are none) and note it in `kept`.

    Args:
        news: called with each place where something is otherwise than it was known to be.

    Returns:
        The metadata of all experiments.
    """
    experiments: list[Manifest] = []
    for resource in (EXPERIMENTS, *LABELLED):
        began_at, version = time.monotonic(), 0
        there: defaultdict[Place, set[str]] = defaultdict(set)
        for namespace in namespaces or (None,):
            labels = None if resource is EXPERIMENTS else {names.EXPERIMENT_LABEL: None}
            async for page in cluster.pages(resource, namespace, labels):
                version = page.version if version == 0 else min(version, page.version)
                for item in page.items:
                    place = place_of(resource, item["metadata"])
                    there[place].add(item["metadata"]["uid"])
                    if not kept.knows(place, resource.kind, item) and kept.heard(place, resource.kind, pack(item)):
                        news(place)
                if resource is EXPERIMENTS:
                    experiments += [item["metadata"] for item in page.items]
                await asyncio.sleep(PAUSE_S)
        for place in kept.listed(resource.kind, began_at, version, there):
            news(place)
    return experiments


def place_of(resource: Resource, metadata: Manifest) -> Place:
    """Return where an experiment, or a child with the label of one, belongs."""
    if resource is EXPERIMENTS:
        return metadata["namespace"], names.scope(metadata["name"])
    return metadata["namespace"], metadata.get("labels", {}).get(names.EXPERIMENT_LABEL, "")
