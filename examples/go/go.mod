module dragonfly/examples

go 1.24

require dragonfly/bindings/go v0.0.0

replace dragonfly/bindings/go => ../../bindings/go
