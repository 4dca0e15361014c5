"""DINOv2: vision transformers whose patch tokens are the layers."""
