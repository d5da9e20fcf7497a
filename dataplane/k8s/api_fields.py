"""Names of the API fields of the parts of Kubernetes objects that the loader reads (Kubernetes v1.34 API reference).

A field listed here may be used or not; one that is not listed is most likely misspelt and gets a warning.
"""

from __future__ import annotations

TOP = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
METADATA = frozenset(
    """name generateName namespace selfLink uid resourceVersion generation creationTimestamp deletionTimestamp
    deletionGracePeriodSeconds labels annotations ownerReferences finalizers clusterName managedFields""".split()
)

NODE_SPEC = frozenset("podCIDR podCIDRs providerID unschedulable taints configSource externalID".split())
NODE_STATUS = frozenset(
    """capacity allocatable phase conditions addresses daemonEndpoints nodeInfo images volumesInUse volumesAttached config
    runtimeHandlers features declaredFeatures""".split()
)

POD_SPEC = frozenset(
    """volumes initContainers containers ephemeralContainers restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds
    dnsPolicy nodeSelector serviceAccountName serviceAccount automountServiceAccountToken nodeName hostNetwork hostPID hostIPC
    shareProcessNamespace securityContext imagePullSecrets hostname subdomain affinity schedulerName tolerations hostAliases
    priorityClassName priority dnsConfig readinessGates runtimeClassName enableServiceLinks preemptionPolicy overhead
    topologySpreadConstraints setHostnameAsFQDN os hostUsers schedulingGates resourceClaims resources
    hostnameOverride workloadRef""".split()
)
POD_STATUS = frozenset(
    """observedGeneration phase conditions message reason nominatedNodeName hostIP hostIPs podIP podIPs startTime
    initContainerStatuses containerStatuses qosClass ephemeralContainerStatuses resize resourceClaimStatuses
    extendedResourceClaimStatus allocatedResources resources""".split()
)
CONTAINER = frozenset(
    """name image command args workingDir ports envFrom env resources resizePolicy restartPolicy restartPolicyRules volumeMounts
    volumeDevices livenessProbe readinessProbe startupProbe lifecycle terminationMessagePath terminationMessagePolicy
    imagePullPolicy securityContext stdin stdinOnce tty""".split()
)
CONTAINER_PORT = frozenset("name hostPort containerPort protocol hostIP".split())

SERVICE_SPEC = frozenset(
    """ports selector clusterIP clusterIPs type externalIPs sessionAffinity loadBalancerIP loadBalancerSourceRanges externalName
    externalTrafficPolicy healthCheckNodePort publishNotReadyAddresses sessionAffinityConfig ipFamilies ipFamilyPolicy
    allocateLoadBalancerNodePorts loadBalancerClass internalTrafficPolicy trafficDistribution""".split()
)
SERVICE_PORT = frozenset("name protocol appProtocol port targetPort nodePort".split())
SERVICE_STATUS = frozenset({"loadBalancer", "conditions"})
INGRESS_STATUS = frozenset({"ip", "hostname", "ipMode", "ports"})

ENDPOINT_SLICE = frozenset({"apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"})
ENDPOINT = frozenset("addresses conditions hostname targetRef deprecatedTopology nodeName zone hints".split())
ENDPOINT_CONDITIONS = frozenset({"ready", "serving", "terminating"})
ENDPOINT_PORT = frozenset({"name", "protocol", "port", "appProtocol"})
ENDPOINTS = frozenset({"apiVersion", "kind", "metadata", "subsets"})
ENDPOINTS_SUBSET = frozenset({"addresses", "notReadyAddresses", "ports"})
ENDPOINTS_ADDRESS = frozenset({"ip", "hostname", "nodeName", "targetRef"})

NETWORK_POLICY_SPEC = frozenset({"podSelector", "policyTypes", "ingress", "egress"})
NETWORK_POLICY_PORT = frozenset({"protocol", "port", "endPort"})
NETWORK_POLICY_PEER = frozenset({"podSelector", "namespaceSelector", "ipBlock"})
SELECTOR = frozenset({"matchLabels", "matchExpressions"})
SELECTOR_REQUIREMENT = frozenset({"key", "operator", "values"})
