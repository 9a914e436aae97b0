"""From bytes to a result: standardise, link, restore, encode, and the cache around it."""
