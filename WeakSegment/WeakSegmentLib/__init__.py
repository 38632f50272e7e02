"""Six extreme points to a lesion mask: scribbles, random walker, pseudo-mask."""
