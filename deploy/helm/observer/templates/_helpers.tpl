{{/* Name of the chart in labels. */}}
{{- define "observer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Start of the objects' names; 63 characters less the longest suffix. */}}
{{- define "observer.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "observer.namespace" -}}
{{- default .Release.Namespace .Values.namespace.name -}}
{{- end -}}

{{/* Names of what has no namespace; two releases of one name in two namespaces must not meet. */}}
{{- define "observer.clusterName" -}}
{{- $namespace := include "observer.namespace" . -}}
{{- $fullname := include "observer.fullname" . -}}
{{- if eq $namespace $fullname -}}
{{- $fullname -}}
{{- else -}}
{{- printf "%s-%s" $namespace $fullname -}}
{{- end -}}
{{- end -}}

{{/* Labels that selectors select by. Arguments: root, role. */}}
{{- define "observer.selector" -}}
app.kubernetes.io/name: {{ include "observer.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{/* Labels of all objects of a role. */}}
{{- define "observer.labels" -}}
{{ include "observer.selector" . }}
app.kubernetes.io/part-of: observer
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of a role's pods: what changes with each release of the chart is not among them. */}}
{{- define "observer.podLabels" -}}
{{- $own := fromYaml (include "observer.selector" .) -}}
{{- toYaml (merge $own (dict "app.kubernetes.io/part-of" "observer") .labels .root.Values.commonLabels) -}}
{{- end -}}

{{- define "observer.image" -}}
{{- with .Values.image -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "observer.agent.account" -}}
{{- if .Values.agent.serviceAccount.create -}}
{{- default (printf "%s-agent" (include "observer.fullname" .)) .Values.agent.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.agent.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "observer.hub.account" -}}
{{- if .Values.hub.serviceAccount.create -}}
{{- default (printf "%s-hub" (include "observer.fullname" .)) .Values.hub.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.hub.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "observer.hub.host" -}}
{{ include "observer.fullname" . }}-hub.{{ include "observer.namespace" . }}.svc
{{- end -}}

{{- define "observer.hub.scheme" -}}
{{ if eq .Values.hub.tls.mode "none" }}http{{ else }}https{{ end }}
{{- end -}}

{{- define "observer.hub.url" -}}
{{ include "observer.hub.scheme" . }}://{{ include "observer.hub.host" . }}:{{ .Values.hub.port }}
{{- end -}}

{{- define "observer.hub.secret" -}}
{{- if eq .Values.hub.tls.mode "secret" -}}
{{- required "hub.tls.secretName is needed for hub.tls.mode: secret" .Values.hub.tls.secretName -}}
{{- else -}}
{{ include "observer.fullname" . }}-hub-tls
{{- end -}}
{{- end -}}

{{/* Where the agent listens; $(HOST_ADDRESS) is filled in by the kubelet. */}}
{{- define "observer.agent.listen" -}}
{{- $http := .Values.agent.http -}}
{{- $six := eq $http.family "IPv6" -}}
{{- if eq $http.address "node" -}}
{{ if $six }}[$(HOST_ADDRESS)]{{ else }}$(HOST_ADDRESS){{ end }}
{{- else if eq $http.address "loopback" -}}
{{ if $six }}[::1]{{ else }}127.0.0.1{{ end }}
{{- else -}}
{{ if $six }}[::]{{ else }}0.0.0.0{{ end }}
{{- end -}}
:{{ $http.port }}
{{- end -}}

{{/* Where programs in the agent's container find it. */}}
{{- define "observer.agent.server" -}}
{{- $http := .Values.agent.http -}}
{{- if eq $http.address "node" -}}
http://{{ include "observer.agent.listen" . }}
{{- else -}}
http://{{ if eq $http.family "IPv6" }}[::1]{{ else }}127.0.0.1{{ end }}:{{ $http.port }}
{{- end -}}
{{- end -}}

{{/* A probe of the agent; the kubelet asks the node's address unless told otherwise. */}}
{{- define "observer.agent.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
{{- if eq .root.Values.agent.http.address "loopback" }}
  host: {{ if eq .root.Values.agent.http.family "IPv6" }}"::1"{{ else }}127.0.0.1{{ end }}
{{- end }}
{{- end -}}

{{/* Settings of the mesh, as far as they are not those that hold anyway. */}}
{{- define "observer.mesh.config" -}}
{{- $mesh := dict -}}
{{- with .Values.mesh -}}
{{- if not .enabled }}{{ $_ := set $mesh "enabled" "off" }}{{ end -}}
{{- if not .istio }}{{ $_ := set $mesh "istio" false }}{{ end -}}
{{- if not .linkerd }}{{ $_ := set $mesh "linkerd" false }}{{ end -}}
{{- if not .gatewayApi }}{{ $_ := set $mesh "gateway_api" false }}{{ end -}}
{{- if not .networkPolicy }}{{ $_ := set $mesh "network_policy" false }}{{ end -}}
{{- if ne .istioNamespace "istio-system" }}{{ $_ := set $mesh "istio_namespace" .istioNamespace }}{{ end -}}
{{- if .istioRevisions }}{{ $_ := set $mesh "istio_revisions" true }}{{ end -}}
{{- if .events }}{{ $_ := set $mesh "events" true }}{{ end -}}
{{- end -}}
{{- if $mesh }}{{ toYaml (dict "mesh" $mesh) }}{{ else }}{}{{ end -}}
{{- end -}}

{{/* Rules for what is declared, for whoever watches the whole cluster: each part for itself. */}}
{{- define "observer.mesh.rules" -}}
{{- with .Values.mesh }}
{{- if .enabled }}
# What a mesh is told, and the labels of namespaces that it depends on.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- if .istio }}
- apiGroups: [security.istio.io]
  resources: [peerauthentications, authorizationpolicies, requestauthentications]
  verbs: [list, watch]
- apiGroups: [networking.istio.io]
  resources: [destinationrules, virtualservices, serviceentries, sidecars, gateways, workloadentries]
  verbs: [list, watch]
- apiGroups: [telemetry.istio.io]
  resources: [telemetries]
  verbs: [list, watch]
{{- if not .istioRevisions }}
# The configuration of Istio's control plane, and no other.
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [istio]
  verbs: [list, watch]
{{- end }}
{{- end }}
{{- if .linkerd }}
- apiGroups: [policy.linkerd.io]
  resources:
    - servers
    - serverauthorizations
    - authorizationpolicies
    - meshtlsauthentications
    - networkauthentications
    - httproutes
    - httplocalratelimitpolicies
    - egressnetworks
  verbs: [list, watch]
- apiGroups: [linkerd.io]
  resources: [serviceprofiles]
  verbs: [list, watch]
{{- end }}
{{- if .gatewayApi }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways, httproutes, grpcroutes, tlsroutes, tcproutes, referencegrants]
  verbs: [list, watch]
{{- end }}
{{- if .networkPolicy }}
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch]
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The role for configurations of revisions, in their namespace. Arguments: root, role, account. */}}
{{- define "observer.mesh.role" -}}
{{- $mesh := .root.Values.mesh -}}
{{- if and $mesh.enabled $mesh.istio $mesh.istioRevisions }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ include "observer.clusterName" .root }}-{{ .role }}
  namespace: {{ $mesh.istioNamespace }}
  labels:
    {{- include "observer.labels" . | nindent 4 }}
rules:
  - apiGroups: [""]
    resources: [configmaps]
    verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ include "observer.clusterName" .root }}-{{ .role }}
  namespace: {{ $mesh.istioNamespace }}
  labels:
    {{- include "observer.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ include "observer.clusterName" .root }}-{{ .role }}
subjects:
  - kind: ServiceAccount
    name: {{ .account }}
    namespace: {{ include "observer.namespace" .root }}
{{- end }}
{{- end -}}

{{- define "observer.agent.config" -}}
{{- $kubernetes := dict "enabled" "on" -}}
{{- with .Values.cluster }}{{ $_ := set $kubernetes "cluster" . }}{{ end -}}
{{- if .Values.hub.enabled -}}
{{- $_ := set $kubernetes "hub" (include "observer.hub.url" .) -}}
{{- if ne .Values.hub.tls.mode "none" -}}
{{- $_ := set $kubernetes "hub_ca" "/var/run/observer/hub/ca.crt" -}}
{{- end -}}
{{- if .Values.hub.authenticate -}}
{{- $_ := set $kubernetes "hub_token" "/var/run/observer/token/token" -}}
{{- end -}}
{{- end -}}
{{- $mesh := fromYaml (include "observer.mesh.config" .) -}}
{{- toYaml (mergeOverwrite (dict "kubernetes" $kubernetes) $mesh (deepCopy .Values.agent.config)) -}}
{{- end -}}

{{- define "observer.hub.config" -}}
{{- $any := "0.0.0.0" -}}
{{- if eq .Values.agent.http.family "IPv6" }}{{ $any = "[::]" }}{{ end -}}
{{- $kubernetes := dict "enabled" "on" -}}
{{- with .Values.cluster }}{{ $_ := set $kubernetes "cluster" . }}{{ end -}}
{{- $hub := dict "listen" (printf "%s:%v" $any .Values.hub.port) "authenticate" .Values.hub.authenticate -}}
{{- if .Values.hub.authenticate -}}
{{- $_ := set $hub "agent_account" (printf "%s/%s" (include "observer.namespace" .) (include "observer.agent.account" .)) -}}
{{- end -}}
{{- with .Values.hub.maxAgents }}{{ $_ := set $hub "max_agents" . }}{{ end -}}
{{- if ne .Values.hub.tls.mode "none" -}}
{{- $_ := set $hub "tls" (dict "certificate" "/var/run/observer/tls/tls.crt" "key" "/var/run/observer/tls/tls.key") -}}
{{- end -}}
{{- $config := dict "kubernetes" $kubernetes "hub" $hub -}}
{{- $mesh := fromYaml (include "observer.mesh.config" .) -}}
{{- toYaml (mergeOverwrite $config $mesh (deepCopy .Values.hub.config)) -}}
{{- end -}}

{{/* What a container at the level "restricted" may: nothing. */}}
{{- define "observer.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}
