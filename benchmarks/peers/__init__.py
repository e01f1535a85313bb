"""Other methods on the sets that the product is measured on."""
