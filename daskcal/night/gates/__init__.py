"""Numbers by which frames and masters are judged, and what they are measured on."""
