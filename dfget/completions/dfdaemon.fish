# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_dfdaemon_global_optspecs
    string join \n config= print-config check-config role= data-dir= listen= lane-listen= lane-congestion= plain-lanes no-lanes scheduler= bootstrap= mdns join= origin-trust= api= api-mode= api-group= api-tcp= api-token-file= api-host= metrics= ready-file= quota= download-limit= upload-limit= upload-slots= connections= site= allow-origin= allow-loopback-origins storage= gateway= gateway-registry= gateway-registry-default= gateway-rule= gateway-prefetch gateway-proven-parts gateway-offline gateway-intercept= gateway-users= gateway-ca-cert= gateway-no-tunnels drain-timeout= client-timeout= log-level= log-format= otlp-endpoint= v/verbose h/help V/version
end

function __fish_dfdaemon_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_dfdaemon_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_dfdaemon_using_subcommand
    set -l cmd (__fish_dfdaemon_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l config -d 'Read settings from here (TOML, or YAML by its ending .yaml or .yml)' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l role -d 'What it does: any of scheduler, seed, peer and gateway, separated by commas' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l data-dir -d 'Where identity, membership and content are kept [default: $STATE_DIRECTORY, else /var/lib/dragonfly for root and $XDG_DATA_HOME/dragonfly for others]' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l listen -d 'Where it listens (repeatable) [default: /ip4/0.0.0.0/tcp/65001 and /ip4/0.0.0.0/udp/65001/quic-v1]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l lane-listen -d 'Where to accept lanes, the connections that carry pieces (repeatable) [default: beside each --listen, at the next port]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l lane-congestion -d 'The congestion control of lanes, such as bbr [default: the system\'s]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l scheduler -d 'A scheduler\'s address with /p2p (repeatable)' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l bootstrap -d 'A member\'s address with /p2p, to find the others through (repeatable)' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l join -d 'Join a network: a token, @FILE, or - for standard input [default: the network joined before, else a new one]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l origin-trust -d 'Whose word counts on what an origin said, in a network that is founded here' -r -f -a "members\t'Any member\'s: works without seeds; any member can lie about a bare URL'
seeds\t'Only seeds\': the right choice for fleets'"
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l api -d 'The socket of the local API: unix:PATH, or none [default: $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/dragonfly or /run/dragonfly, /dfdaemon.sock]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l api-mode -d 'Who may use the socket: its mode, octal' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l api-group -d 'The group of the socket, by name or number [default: the daemon\'s]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l api-tcp -d 'Serve the API over TCP here as well, to who has the token' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l api-token-file -d 'The file with the token of the TCP API; made if it is not there [default: api-token in the data directory]' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l api-host -d 'A further name of this host by which clients of the TCP API may call it (repeatable)' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l metrics -d 'Serve /metrics, /healthz and /readyz over HTTP here, such as 127.0.0.1:9090; anyone who reaches it reads it' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l ready-file -d 'Write identity, addresses and a join token here (JSON, mode 0600) once everything serves' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l quota -d 'The most bytes of content that are kept, such as 50GiB' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l download-limit -d 'The most bytes a second that are taken from origins and peers, such as 100MiB' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l upload-limit -d 'The most bytes a second that are sent to peers' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l upload-slots -d 'How many neighbours are served at a time; 0 never uploads' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l connections -d 'How many members may be connected at a time, up to 100000 and half of the descriptors [default: 4096, with the role scheduler 100000]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l site -d 'The site that this host is in, such as a region or a data centre, where the links between sites are thin: hosts of one site get content from each other, and few of them from another' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l allow-origin -d 'An origin that may be fetched from for other members, [scheme://]host[:port], the host perhaps with *. in front (repeatable) [default: any]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l storage -d 'How a storage is reached and as whom: WHERE.WHAT=VALUE, such as s3.endpoint=https://minio.example or webdav://host.secret-file=FILE (repeatable) [default: what each platform\'s environment and files say]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l gateway -d 'Serve container runtimes and package managers here: a registry mirror below /v2/, and a proxy. Who reaches it may use it [default: none; with the role gateway 127.0.0.1:65010]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l gateway-registry -d 'Where the registry is that clients call so, such as registry.example:5000=http://10.0.0.1:5000 (repeatable) [default: at its own name, over HTTPS]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l gateway-registry-default -d 'The registry of clients that name none: podman, skopeo, docker' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l gateway-rule -d 'What becomes of requests to the proxy, ACTION[+ACTION...]:REGEX, the actions of swarm, direct, tls, host=HOST[:PORT] and filter=NAME[,NAME...]; the first rule that fits counts (repeatable) [default: they are passed on]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l gateway-intercept -d 'Take part in the TLS of this host\'s clients, so that its content can be shared: NAME, *.NAME or an IP address, at port 443 or with :PORT. They have to trust the authority that `dfdaemon ca` creates (repeatable)' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l gateway-users -d 'Let in only clients that show a name and a password of this file, with NAME:PASSWORD on each line, mode 0600, as proxies are told (Proxy-Authorization)' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l gateway-ca-cert -d 'Trust the authorities of this file (PEM) beside the system\'s, for the servers behind the gateway (repeatable)' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l drain-timeout -d 'For what is under way when the daemon is asked to stop' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l client-timeout -d 'How long a client of the API may take nothing of what it asked for' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l log-level -d 'What is logged: a level, and levels of single rooms, such as info,swarm=debug' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l log-format -d 'How the log is written' -r -f -a "json\t''
text\t''"
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l otlp-endpoint -d 'Send traces of downloads to this collector, OTLP over HTTP, such as http://127.0.0.1:4318; in builds with the feature otlp [default: $OTEL_EXPORTER_OTLP_ENDPOINT]' -r
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l print-config -d 'Print every setting, where it comes from, and end'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l check-config -d 'Check the settings and end'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l plain-lanes -d 'Do not encrypt lanes to hosts that are set so, too, once both are proven: whoever is on the way reads public content and who has what, and can take a connection over. Members and pieces are proven as always; private content stays encrypted'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l no-lanes -d 'Carry pieces over streams of libp2p alone, at about twice the processor time'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l mdns -d 'Look by mDNS for members on the links of this host, and tell them of it: no address to meet at is needed'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l allow-loopback-origins -d 'Fetch from loopback addresses also for other members; for tests'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l gateway-prefetch -d 'Where a client asks for a part, fetch the rest as well'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l gateway-proven-parts -d 'Give out parts of a blob only from a copy that was checked as a whole; until this host has one, the registry\'s own bytes are passed on, and the whole is fetched meanwhile [default: what members attest]'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l gateway-offline -d 'While its server cannot be reached, give out what was had from it without credentials'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -l gateway-no-tunnels -d 'Refuse CONNECT, but to the hosts of --gateway-intercept'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -s v -l verbose -d 'Say more (twice: much more): short for --log-level debug, trace'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -s V -l version -d 'Print version'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -f -a "init" -d 'Found a network here, or show which one this is'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -f -a "token" -d 'Print a token with which others join this network'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -f -a "join" -d 'Join a network, for the daemon\'s next start'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -f -a "status" -d 'Show what the running daemon is and does'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -f -a "setup" -d 'Have a client of this machine use the gateway, or show how'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -f -a "ca" -d 'Create the authority with which the gateway takes part in TLS, or show it and how to trust it'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -f -a "doctor" -d 'Check ports, clock, disk, limits, membership and who can be reached, and say what to do'
complete -c dfdaemon -n "__fish_dfdaemon_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand init" -l data-dir -d 'The data directory of the daemon' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand init" -l api -d 'The daemon\'s socket [default: the one noted in the data directory]' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand init" -l origin-trust -d 'Whose word counts on what an origin said' -r -f -a "members\t'Any member\'s: works without seeds; any member can lie about a bare URL'
seeds\t'Only seeds\': the right choice for fleets'"
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand init" -l write-config -d 'Write a configuration file to start from' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand token" -l data-dir -d 'The data directory of the daemon' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand token" -l api -d 'The daemon\'s socket [default: the one noted in the data directory]' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand token" -l role -d 'The roles of who joins with it: any of scheduler, seed and peer' -r
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand token" -l expires -d 'For how long hosts can join with it, such as 30d [default: without end]' -r
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand token" -l address -d 'An address to meet at, in place of the daemon\'s own (repeatable)' -r
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand token" -s h -l help -d 'Print help'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand join" -l data-dir -d 'The data directory of the daemon' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand join" -l api -d 'The daemon\'s socket [default: the one noted in the data directory]' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand join" -s h -l help -d 'Print help'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand status" -l data-dir -d 'The data directory of the daemon' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand status" -l api -d 'The daemon\'s socket [default: the one noted in the data directory]' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand status" -l json -d 'Print JSON'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand status" -s h -l help -d 'Print help'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand setup" -l gateway -d 'Where the gateway is' -r
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand setup" -l registry -d 'A registry to mirror, as the client calls it (repeatable) [default: for containerd all; podman and CRI-O need names]' -r
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand setup" -l root -d 'Another directory in place of /, such as the root of an image that is being built' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand setup" -l undo -d 'Take back what was set up'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand setup" -l dry-run -d 'Show what would be written, and write nothing'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand setup" -s h -l help -d 'Print help'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand ca" -l data-dir -d 'The data directory of the daemon' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand ca" -l api -d 'The daemon\'s socket [default: the one noted in the data directory]' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand ca" -l host -d 'A host that it may vouch for, with all below its name; others it is not believed of (repeatable) [default: any]' -r
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand ca" -l days -d 'How long a new one is good' -r
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand ca" -l renew -d 'Make another one in place of the one that is there'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand ca" -l json -d 'Print JSON'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand ca" -s h -l help -d 'Print help'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand doctor" -l data-dir -d 'The data directory of the daemon' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand doctor" -l api -d 'The daemon\'s socket [default: the one noted in the data directory]' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand doctor" -l config -d 'Also check that this configuration file is understood' -r -F
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand doctor" -l json -d 'Print JSON'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand help; and not __fish_seen_subcommand_from init token join status setup ca doctor help" -f -a "init" -d 'Found a network here, or show which one this is'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand help; and not __fish_seen_subcommand_from init token join status setup ca doctor help" -f -a "token" -d 'Print a token with which others join this network'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand help; and not __fish_seen_subcommand_from init token join status setup ca doctor help" -f -a "join" -d 'Join a network, for the daemon\'s next start'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand help; and not __fish_seen_subcommand_from init token join status setup ca doctor help" -f -a "status" -d 'Show what the running daemon is and does'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand help; and not __fish_seen_subcommand_from init token join status setup ca doctor help" -f -a "setup" -d 'Have a client of this machine use the gateway, or show how'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand help; and not __fish_seen_subcommand_from init token join status setup ca doctor help" -f -a "ca" -d 'Create the authority with which the gateway takes part in TLS, or show it and how to trust it'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand help; and not __fish_seen_subcommand_from init token join status setup ca doctor help" -f -a "doctor" -d 'Check ports, clock, disk, limits, membership and who can be reached, and say what to do'
complete -c dfdaemon -n "__fish_dfdaemon_using_subcommand help; and not __fish_seen_subcommand_from init token join status setup ca doctor help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
