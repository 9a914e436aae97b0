"""The commands of the console: each reads its options, does its work, and says how it went."""
