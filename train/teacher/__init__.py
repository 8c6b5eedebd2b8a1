"""The many-step teacher."""
