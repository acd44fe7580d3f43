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
{{- toYaml (mergeOverwrite (dict "kubernetes" $kubernetes) (deepCopy .Values.agent.config)) -}}
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
{{- toYaml (mergeOverwrite $config (deepCopy .Values.hub.config)) -}}
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
