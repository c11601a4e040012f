"""Files in and out: radiographs, CT volumes, their geometry, pictures. No torch in here."""
