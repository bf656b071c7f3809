"""How an answer becomes sheets of numbers, and back."""
