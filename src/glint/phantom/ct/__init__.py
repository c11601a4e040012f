"""The phantom as chest CT: volumes, reports and exact 3D masks, from the same anatomy as the X-rays."""
