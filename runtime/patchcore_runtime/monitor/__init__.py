"""Control charts over many images: has the line changed since the fit?"""
