"""Files in and out: radiographs, letterbox geometry, pictures. No torch in here."""
