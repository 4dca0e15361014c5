"""Feature networks: ResNets and the scattering network in MindSpore, and their parameters."""
