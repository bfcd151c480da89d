"""One operator family a file: derivation, public function, rule."""
