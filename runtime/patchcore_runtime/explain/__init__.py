"""Why an image scored as it did: heat maps, regions, and the normal patches it is compared with."""
