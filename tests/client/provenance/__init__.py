"""What saved videos say of who made them."""
