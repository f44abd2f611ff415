module dragonfly/bindings/go

go 1.24
