# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_dfget_global_optspecs
    string join \n i/input-file= recursive include= exclude= max-files= platform= dry-run O/output= overwrite c/continue r/range= digest= H/header= tag= application= filtered-query-param= ca-cert= insecure limit-rate= p/priority= timeout= disable-back-to-source piece-length= max-concurrent-requests= e/endpoint= api-token-file= standalone data-dir= join= scheduler= bootstrap= storage= q/quiet v/verbose json no-progress h/help V/version
end

function __fish_dfget_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_dfget_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_dfget_using_subcommand
    set -l cmd (__fish_dfget_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c dfget -n "__fish_dfget_needs_command" -s i -l input-file -d 'Read URLs from a file, one a line, or from standard input with -; lines that start with # are left out' -r -F
complete -c dfget -n "__fish_dfget_needs_command" -l include -d 'With --recursive: only files that fit this pattern, such as \'*.safetensors\' or \'a/**\' (repeatable)' -r
complete -c dfget -n "__fish_dfget_needs_command" -l exclude -d 'With --recursive: no files that fit this pattern (repeatable)' -r
complete -c dfget -n "__fish_dfget_needs_command" -l max-files -d 'With --recursive: the most files; more are an error' -r
complete -c dfget -n "__fish_dfget_needs_command" -l platform -d 'With --recursive and an oci: URL: only the image for this platform [default: all that the image is there for]' -r
complete -c dfget -n "__fish_dfget_needs_command" -s O -l output -d 'Where to put it: a file, an existing directory, or - for standard output [default: the URL\'s last segment]' -r -F
complete -c dfget -n "__fish_dfget_needs_command" -s r -l range -d 'Only these bytes: FIRST-LAST, FIRST- or -COUNT, both ends included' -r
complete -c dfget -n "__fish_dfget_needs_command" -l digest -d 'The digest of the whole: blake3:, sha256:, sha512:, md5: or crc32c: and hexadecimal digits' -r
complete -c dfget -n "__fish_dfget_needs_command" -s H -l header -d 'A header for the origin, \'Name: value\' (repeatable)' -r
complete -c dfget -n "__fish_dfget_needs_command" -l tag -d 'Keeps content apart that has one URL' -r
complete -c dfget -n "__fish_dfget_needs_command" -l application -d 'The application that asks; keeps content apart, too' -r
complete -c dfget -n "__fish_dfget_needs_command" -l filtered-query-param -d 'A query parameter that does not change the content (repeatable; in place of the signatures of object stores)' -r
complete -c dfget -n "__fish_dfget_needs_command" -l ca-cert -d 'Certificate authorities to trust beside the system\'s (PEM)' -r -F
complete -c dfget -n "__fish_dfget_needs_command" -l limit-rate -d 'The most bytes a second, such as 10MiB' -r
complete -c dfget -n "__fish_dfget_needs_command" -s p -l priority -d 'How urgent it is: 0 (most) to 7' -r
complete -c dfget -n "__fish_dfget_needs_command" -l timeout -d 'The longest time that a download may take, such as 30s or 2h' -r
complete -c dfget -n "__fish_dfget_needs_command" -l piece-length -d 'As in Dragonfly; has no effect, since the length of a piece follows from the length of the content' -r
complete -c dfget -n "__fish_dfget_needs_command" -l max-concurrent-requests -d 'How many URLs are fetched at a time' -r
complete -c dfget -n "__fish_dfget_needs_command" -s e -l endpoint -d 'The daemon: unix:PATH or http://HOST:PORT [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock, /run/dragonfly/dfdaemon.sock]' -r
complete -c dfget -n "__fish_dfget_needs_command" -l api-token-file -d 'The file with the token for a daemon at http://' -r -F
complete -c dfget -n "__fish_dfget_needs_command" -l data-dir -d 'Where to keep content and identity when fetching in this process [default: beside the output, until it is done]' -r -F
complete -c dfget -n "__fish_dfget_needs_command" -l join -d 'Join a network and fetch in this process: a token, @FILE, or - for standard input' -r
complete -c dfget -n "__fish_dfget_needs_command" -l scheduler -d 'A scheduler\'s address with /p2p, for fetching in this process (repeatable)' -r
complete -c dfget -n "__fish_dfget_needs_command" -l bootstrap -d 'A member\'s address with /p2p, for fetching in this process (repeatable)' -r
complete -c dfget -n "__fish_dfget_needs_command" -l storage -d 'How a storage is reached and as whom when fetching in this process: WHERE.WHAT=VALUE, such as s3.endpoint=https://minio.example (repeatable) [default: what each platform\'s environment and files say]' -r
complete -c dfget -n "__fish_dfget_needs_command" -l recursive -d 'Fetch everything below the URL: a directory of a server, a prefix of a bucket, an index page, an image (as an OCI layout). It goes into a directory, -O or one with the URL\'s last name; files that are there already are left as they are'
complete -c dfget -n "__fish_dfget_needs_command" -l dry-run -d 'With --recursive: say what would be fetched (length, output, URL), and fetch nothing'
complete -c dfget -n "__fish_dfget_needs_command" -l overwrite -d 'Replace an existing output'
complete -c dfget -n "__fish_dfget_needs_command" -s c -l continue -d 'As in wget; what was interrupted always goes on'
complete -c dfget -n "__fish_dfget_needs_command" -l insecure -d 'Accept any TLS certificate of the origin; the content is then not shared'
complete -c dfget -n "__fish_dfget_needs_command" -l disable-back-to-source -d 'Take the content from peers only, never from the origin'
complete -c dfget -n "__fish_dfget_needs_command" -l standalone -d 'Fetch in this process, without a daemon'
complete -c dfget -n "__fish_dfget_needs_command" -s q -l quiet -d 'Say nothing but errors'
complete -c dfget -n "__fish_dfget_needs_command" -s v -l verbose -d 'Say more (twice: much more)'
complete -c dfget -n "__fish_dfget_needs_command" -l json -d 'Write JSON to standard output: for downloads a line per event, then the receipt'
complete -c dfget -n "__fish_dfget_needs_command" -l no-progress -d 'Show no progress'
complete -c dfget -n "__fish_dfget_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dfget -n "__fish_dfget_needs_command" -s V -l version -d 'Print version'
complete -c dfget -n "__fish_dfget_needs_command" -a "stat" -d 'Show what the daemon holds of a URL or a task'
complete -c dfget -n "__fish_dfget_needs_command" -a "ls" -d 'List what the daemon holds'
complete -c dfget -n "__fish_dfget_needs_command" -a "rm" -d 'Remove a URL or a task from the daemon\'s store'
complete -c dfget -n "__fish_dfget_needs_command" -a "pin" -d 'Keep a URL or a task whatever the quota says'
complete -c dfget -n "__fish_dfget_needs_command" -a "unpin" -d 'Let a URL or a task go when the quota wants it'
complete -c dfget -n "__fish_dfget_needs_command" -a "preheat" -d 'Have the daemon, a seed, fetch URLs before anyone asks for them'
complete -c dfget -n "__fish_dfget_needs_command" -a "tasks" -d 'Show the tasks that are being fetched and served'
complete -c dfget -n "__fish_dfget_needs_command" -a "peers" -d 'Show the hosts that pieces are exchanged with'
complete -c dfget -n "__fish_dfget_needs_command" -a "top" -d 'Watch tasks, neighbours and rates'
complete -c dfget -n "__fish_dfget_needs_command" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dfget -n "__fish_dfget_using_subcommand stat" -l digest -d 'The digest of the whole: blake3:, sha256:, sha512:, md5: or crc32c: and hexadecimal digits' -r
complete -c dfget -n "__fish_dfget_using_subcommand stat" -s H -l header -d 'A header for the origin, \'Name: value\' (repeatable)' -r
complete -c dfget -n "__fish_dfget_using_subcommand stat" -l tag -d 'Keeps content apart that has one URL' -r
complete -c dfget -n "__fish_dfget_using_subcommand stat" -l application -d 'The application that asks; keeps content apart, too' -r
complete -c dfget -n "__fish_dfget_using_subcommand stat" -l filtered-query-param -d 'A query parameter that does not change the content (repeatable; in place of the signatures of object stores)' -r
complete -c dfget -n "__fish_dfget_using_subcommand stat" -l ca-cert -d 'Certificate authorities to trust beside the system\'s (PEM)' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand stat" -s e -l endpoint -d 'The daemon: unix:PATH or http://HOST:PORT [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock, /run/dragonfly/dfdaemon.sock]' -r
complete -c dfget -n "__fish_dfget_using_subcommand stat" -l api-token-file -d 'The file with the token for a daemon at http://' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand stat" -l insecure -d 'Accept any TLS certificate of the origin; the content is then not shared'
complete -c dfget -n "__fish_dfget_using_subcommand stat" -s q -l quiet -d 'Say nothing but errors'
complete -c dfget -n "__fish_dfget_using_subcommand stat" -s v -l verbose -d 'Say more (twice: much more)'
complete -c dfget -n "__fish_dfget_using_subcommand stat" -l json -d 'Write JSON to standard output: for downloads a line per event, then the receipt'
complete -c dfget -n "__fish_dfget_using_subcommand stat" -s h -l help -d 'Print help'
complete -c dfget -n "__fish_dfget_using_subcommand ls" -s e -l endpoint -d 'The daemon: unix:PATH or http://HOST:PORT [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock, /run/dragonfly/dfdaemon.sock]' -r
complete -c dfget -n "__fish_dfget_using_subcommand ls" -l api-token-file -d 'The file with the token for a daemon at http://' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand ls" -s q -l quiet -d 'Say nothing but errors'
complete -c dfget -n "__fish_dfget_using_subcommand ls" -s v -l verbose -d 'Say more (twice: much more)'
complete -c dfget -n "__fish_dfget_using_subcommand ls" -l json -d 'Write JSON to standard output: for downloads a line per event, then the receipt'
complete -c dfget -n "__fish_dfget_using_subcommand ls" -s h -l help -d 'Print help'
complete -c dfget -n "__fish_dfget_using_subcommand rm" -l digest -d 'The digest of the whole: blake3:, sha256:, sha512:, md5: or crc32c: and hexadecimal digits' -r
complete -c dfget -n "__fish_dfget_using_subcommand rm" -s H -l header -d 'A header for the origin, \'Name: value\' (repeatable)' -r
complete -c dfget -n "__fish_dfget_using_subcommand rm" -l tag -d 'Keeps content apart that has one URL' -r
complete -c dfget -n "__fish_dfget_using_subcommand rm" -l application -d 'The application that asks; keeps content apart, too' -r
complete -c dfget -n "__fish_dfget_using_subcommand rm" -l filtered-query-param -d 'A query parameter that does not change the content (repeatable; in place of the signatures of object stores)' -r
complete -c dfget -n "__fish_dfget_using_subcommand rm" -l ca-cert -d 'Certificate authorities to trust beside the system\'s (PEM)' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand rm" -s e -l endpoint -d 'The daemon: unix:PATH or http://HOST:PORT [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock, /run/dragonfly/dfdaemon.sock]' -r
complete -c dfget -n "__fish_dfget_using_subcommand rm" -l api-token-file -d 'The file with the token for a daemon at http://' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand rm" -l insecure -d 'Accept any TLS certificate of the origin; the content is then not shared'
complete -c dfget -n "__fish_dfget_using_subcommand rm" -s q -l quiet -d 'Say nothing but errors'
complete -c dfget -n "__fish_dfget_using_subcommand rm" -s v -l verbose -d 'Say more (twice: much more)'
complete -c dfget -n "__fish_dfget_using_subcommand rm" -l json -d 'Write JSON to standard output: for downloads a line per event, then the receipt'
complete -c dfget -n "__fish_dfget_using_subcommand rm" -s h -l help -d 'Print help'
complete -c dfget -n "__fish_dfget_using_subcommand pin" -l digest -d 'The digest of the whole: blake3:, sha256:, sha512:, md5: or crc32c: and hexadecimal digits' -r
complete -c dfget -n "__fish_dfget_using_subcommand pin" -s H -l header -d 'A header for the origin, \'Name: value\' (repeatable)' -r
complete -c dfget -n "__fish_dfget_using_subcommand pin" -l tag -d 'Keeps content apart that has one URL' -r
complete -c dfget -n "__fish_dfget_using_subcommand pin" -l application -d 'The application that asks; keeps content apart, too' -r
complete -c dfget -n "__fish_dfget_using_subcommand pin" -l filtered-query-param -d 'A query parameter that does not change the content (repeatable; in place of the signatures of object stores)' -r
complete -c dfget -n "__fish_dfget_using_subcommand pin" -l ca-cert -d 'Certificate authorities to trust beside the system\'s (PEM)' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand pin" -s e -l endpoint -d 'The daemon: unix:PATH or http://HOST:PORT [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock, /run/dragonfly/dfdaemon.sock]' -r
complete -c dfget -n "__fish_dfget_using_subcommand pin" -l api-token-file -d 'The file with the token for a daemon at http://' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand pin" -l insecure -d 'Accept any TLS certificate of the origin; the content is then not shared'
complete -c dfget -n "__fish_dfget_using_subcommand pin" -s q -l quiet -d 'Say nothing but errors'
complete -c dfget -n "__fish_dfget_using_subcommand pin" -s v -l verbose -d 'Say more (twice: much more)'
complete -c dfget -n "__fish_dfget_using_subcommand pin" -l json -d 'Write JSON to standard output: for downloads a line per event, then the receipt'
complete -c dfget -n "__fish_dfget_using_subcommand pin" -s h -l help -d 'Print help'
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -l digest -d 'The digest of the whole: blake3:, sha256:, sha512:, md5: or crc32c: and hexadecimal digits' -r
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -s H -l header -d 'A header for the origin, \'Name: value\' (repeatable)' -r
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -l tag -d 'Keeps content apart that has one URL' -r
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -l application -d 'The application that asks; keeps content apart, too' -r
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -l filtered-query-param -d 'A query parameter that does not change the content (repeatable; in place of the signatures of object stores)' -r
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -l ca-cert -d 'Certificate authorities to trust beside the system\'s (PEM)' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -s e -l endpoint -d 'The daemon: unix:PATH or http://HOST:PORT [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock, /run/dragonfly/dfdaemon.sock]' -r
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -l api-token-file -d 'The file with the token for a daemon at http://' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -l insecure -d 'Accept any TLS certificate of the origin; the content is then not shared'
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -s q -l quiet -d 'Say nothing but errors'
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -s v -l verbose -d 'Say more (twice: much more)'
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -l json -d 'Write JSON to standard output: for downloads a line per event, then the receipt'
complete -c dfget -n "__fish_dfget_using_subcommand unpin" -s h -l help -d 'Print help'
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -l digest -d 'The digest of the whole: blake3:, sha256:, sha512:, md5: or crc32c: and hexadecimal digits' -r
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -s H -l header -d 'A header for the origin, \'Name: value\' (repeatable)' -r
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -l tag -d 'Keeps content apart that has one URL' -r
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -l application -d 'The application that asks; keeps content apart, too' -r
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -l filtered-query-param -d 'A query parameter that does not change the content (repeatable; in place of the signatures of object stores)' -r
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -l ca-cert -d 'Certificate authorities to trust beside the system\'s (PEM)' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -s e -l endpoint -d 'The daemon: unix:PATH or http://HOST:PORT [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock, /run/dragonfly/dfdaemon.sock]' -r
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -l api-token-file -d 'The file with the token for a daemon at http://' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -l no-wait -d 'Only start it, and do not wait for the end'
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -l insecure -d 'Accept any TLS certificate of the origin; the content is then not shared'
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -s q -l quiet -d 'Say nothing but errors'
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -s v -l verbose -d 'Say more (twice: much more)'
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -l json -d 'Write JSON to standard output: for downloads a line per event, then the receipt'
complete -c dfget -n "__fish_dfget_using_subcommand preheat" -s h -l help -d 'Print help'
complete -c dfget -n "__fish_dfget_using_subcommand tasks" -s e -l endpoint -d 'The daemon: unix:PATH or http://HOST:PORT [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock, /run/dragonfly/dfdaemon.sock]' -r
complete -c dfget -n "__fish_dfget_using_subcommand tasks" -l api-token-file -d 'The file with the token for a daemon at http://' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand tasks" -s q -l quiet -d 'Say nothing but errors'
complete -c dfget -n "__fish_dfget_using_subcommand tasks" -s v -l verbose -d 'Say more (twice: much more)'
complete -c dfget -n "__fish_dfget_using_subcommand tasks" -l json -d 'Write JSON to standard output: for downloads a line per event, then the receipt'
complete -c dfget -n "__fish_dfget_using_subcommand tasks" -s h -l help -d 'Print help'
complete -c dfget -n "__fish_dfget_using_subcommand peers" -s e -l endpoint -d 'The daemon: unix:PATH or http://HOST:PORT [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock, /run/dragonfly/dfdaemon.sock]' -r
complete -c dfget -n "__fish_dfget_using_subcommand peers" -l api-token-file -d 'The file with the token for a daemon at http://' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand peers" -s q -l quiet -d 'Say nothing but errors'
complete -c dfget -n "__fish_dfget_using_subcommand peers" -s v -l verbose -d 'Say more (twice: much more)'
complete -c dfget -n "__fish_dfget_using_subcommand peers" -l json -d 'Write JSON to standard output: for downloads a line per event, then the receipt'
complete -c dfget -n "__fish_dfget_using_subcommand peers" -s h -l help -d 'Print help'
complete -c dfget -n "__fish_dfget_using_subcommand top" -s d -l interval -d 'Between two looks' -r
complete -c dfget -n "__fish_dfget_using_subcommand top" -s n -l count -d 'Look so often, then end; without a terminal the default is once' -r
complete -c dfget -n "__fish_dfget_using_subcommand top" -s e -l endpoint -d 'The daemon: unix:PATH or http://HOST:PORT [default: $XDG_RUNTIME_DIR/dragonfly/dfdaemon.sock, /run/dragonfly/dfdaemon.sock]' -r
complete -c dfget -n "__fish_dfget_using_subcommand top" -l api-token-file -d 'The file with the token for a daemon at http://' -r -F
complete -c dfget -n "__fish_dfget_using_subcommand top" -s q -l quiet -d 'Say nothing but errors'
complete -c dfget -n "__fish_dfget_using_subcommand top" -s v -l verbose -d 'Say more (twice: much more)'
complete -c dfget -n "__fish_dfget_using_subcommand top" -l json -d 'Write JSON to standard output: for downloads a line per event, then the receipt'
complete -c dfget -n "__fish_dfget_using_subcommand top" -s h -l help -d 'Print help'
complete -c dfget -n "__fish_dfget_using_subcommand help; and not __fish_seen_subcommand_from stat ls rm pin unpin preheat tasks peers top help" -f -a "stat" -d 'Show what the daemon holds of a URL or a task'
complete -c dfget -n "__fish_dfget_using_subcommand help; and not __fish_seen_subcommand_from stat ls rm pin unpin preheat tasks peers top help" -f -a "ls" -d 'List what the daemon holds'
complete -c dfget -n "__fish_dfget_using_subcommand help; and not __fish_seen_subcommand_from stat ls rm pin unpin preheat tasks peers top help" -f -a "rm" -d 'Remove a URL or a task from the daemon\'s store'
complete -c dfget -n "__fish_dfget_using_subcommand help; and not __fish_seen_subcommand_from stat ls rm pin unpin preheat tasks peers top help" -f -a "pin" -d 'Keep a URL or a task whatever the quota says'
complete -c dfget -n "__fish_dfget_using_subcommand help; and not __fish_seen_subcommand_from stat ls rm pin unpin preheat tasks peers top help" -f -a "unpin" -d 'Let a URL or a task go when the quota wants it'
complete -c dfget -n "__fish_dfget_using_subcommand help; and not __fish_seen_subcommand_from stat ls rm pin unpin preheat tasks peers top help" -f -a "preheat" -d 'Have the daemon, a seed, fetch URLs before anyone asks for them'
complete -c dfget -n "__fish_dfget_using_subcommand help; and not __fish_seen_subcommand_from stat ls rm pin unpin preheat tasks peers top help" -f -a "tasks" -d 'Show the tasks that are being fetched and served'
complete -c dfget -n "__fish_dfget_using_subcommand help; and not __fish_seen_subcommand_from stat ls rm pin unpin preheat tasks peers top help" -f -a "peers" -d 'Show the hosts that pieces are exchanged with'
complete -c dfget -n "__fish_dfget_using_subcommand help; and not __fish_seen_subcommand_from stat ls rm pin unpin preheat tasks peers top help" -f -a "top" -d 'Watch tasks, neighbours and rates'
complete -c dfget -n "__fish_dfget_using_subcommand help; and not __fish_seen_subcommand_from stat ls rm pin unpin preheat tasks peers top help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
