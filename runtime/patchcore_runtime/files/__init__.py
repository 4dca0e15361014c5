"""Reading and writing files safely, whatever is inside them."""
