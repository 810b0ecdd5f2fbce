"""What an answer is worth: pure functions over plain values."""
